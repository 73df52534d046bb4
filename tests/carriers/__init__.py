"""Small agents of other kinds than the registered ones, which the contract must carry."""
