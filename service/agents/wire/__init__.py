"""Parts that several agents share: requests, replies, streams, and the classification of error responses."""
