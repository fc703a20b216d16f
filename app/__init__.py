"""What a person sees: the command line and the Streamlit pages. Nothing imports this package."""
