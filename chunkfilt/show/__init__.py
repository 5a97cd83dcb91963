"""What a person sees: pictures and a notebook's HTML."""
