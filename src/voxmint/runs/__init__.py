"""Making a data set of any size: plan, worker processes, ledger, verification."""
