package jetstream

import "time"

// AskAgainAfter sets how long the client waits for an answer before it sends a call that changes nothing again.
func (c *Client) AskAgainAfter(d time.Duration) { c.again = d }
