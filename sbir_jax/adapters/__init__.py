"""What can be trained on a frozen backbone: a module for each kind of adapter."""
