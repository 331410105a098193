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

// Rows is how many jobs a page may have in this NATS, of which it takes half a message, when so many are asked for; 0
// asks for as many as are usual.
func (q *Queue) Rows(asked int) int {
	return min(cmp.Or(asked, usualRows), mostRows, q.pageSize()/mostRowSize)
}

// pageSize is how many bytes a page may have.
func (q *Queue) pageSize() int { return int(q.nc.MaxPayload()) / 2 }
