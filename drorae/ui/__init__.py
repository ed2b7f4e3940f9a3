"""The explorer's page. The only part of the package that imports Gradio."""
