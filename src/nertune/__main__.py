"""`python -m nertune` is the command `nertune`."""

from nertune.cli import main

raise SystemExit(main())
