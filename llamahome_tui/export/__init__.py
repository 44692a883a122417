"""What leaves LlamaHome: an adapter, a merged model, and the proof that it is what was trained."""
