"""What enhancing a million locations costs a client: ours, a floor, and the vendor's."""
