"""What travels: requests, answers, audio in JSON, and the document that describes them."""
