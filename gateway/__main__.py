"""`python -m gateway`: the same commands as `tallygate`."""

from __future__ import annotations

from gateway.cli.main import main

if __name__ == "__main__":
    main()
