"""The paper's published numbers, fits of their scaling, and charts."""
