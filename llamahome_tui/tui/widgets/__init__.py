"""What screens are made of; widgets know neither the app nor the screens."""
