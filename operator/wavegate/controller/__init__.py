"""The controller: gather → decide → act → record, channel by channel, again and again."""
