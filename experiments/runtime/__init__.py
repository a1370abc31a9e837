"""What every experiment program does around its experiment."""
