"""What tests share: commands as a user types them, small data, runs that are made up."""
