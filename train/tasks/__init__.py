"""What trains, on what, with which loss."""
