"""What every task is made of: settings, the registry, charsets, the contract."""
