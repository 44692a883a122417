"""The one door to the Hugging Face Hub; no other package talks to the network."""
