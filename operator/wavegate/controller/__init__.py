"""The controller: gather → decide → act → record, one channel at a time, again and again."""
