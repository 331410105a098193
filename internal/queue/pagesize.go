package queue

import (
	"cmp"
	"time"
)

const (
	mostRows    = 500 // of a page
	usualRows   = 100
	mostRowSize = 1 << 10 // bytes of a JobRow in JSON: names have at most 64 letters, ids 120
	longestWait = 10 * time.Second
)

// Rows is how many jobs a page has when asked are asked for (0: 100): at most 500, and at most as many as fit into half of NATS'
// max_payload.
func (q *Queue) Rows(asked int) int {
	return min(cmp.Or(asked, usualRows), mostRows, q.pageSize()/mostRowSize)
}

// pageSize is the most bytes of a page: half of NATS' max_payload.
func (q *Queue) pageSize() int { return int(q.nc.MaxPayload()) / 2 }
