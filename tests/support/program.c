/* The agent on real nodes. Content beginning with "bad" ends it, as a file that its parser cannot
 * bear; with other content it says that it is ready and waits. `ready` asks it for that. Without
 * content it only waits: the pause container of a pod. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONTENT "/content/rules"
#define READY "/state/ready"

static void stop(int signal) { (void)signal; _exit(0); }

int main(int count, char **words) {
  char line[256] = "";
  if (count > 1 && strcmp(words[1], "ready") == 0) return access(READY, F_OK) ? 1 : 0;
  signal(SIGTERM, stop);
  signal(SIGINT, stop);
  FILE *content = fopen(CONTENT, "r");
  if (content) {
    if (!fgets(line, sizeof line, content) || strncmp(line, "bad", 3) == 0) {
      fprintf(stderr, "cannot parse %s: %s\n", CONTENT, line);
      return 3;
    }
    printf("loaded %s\n", line);
    fflush(stdout);
    FILE *ready = fopen(READY, "w");
    if (!ready) return 4;
    fclose(ready);
  }
  for (;;) pause();
}
