"""What draws results in a browser, on the page and in reports: plain JSON values, and the script that shows them."""
