package dispatcher

import (
	"encoding/json"
	"fmt"

	"github.com/comfyherd/comfyherd/jetstream"
)

// rowsMost is how many rows an answer has at most.
const rowsMost = 500

// page is how much room an answer still has: for rows, and for bytes.
type page struct {
	rows, bytes int
	begun       bool
}

// page is an empty answer. A limit of 0 is the most there may be.
func (d *Dispatcher) page(limit int) (*page, error) {
	if limit < 0 {
		return nil, &jetstream.BadRequest{Message: fmt.Sprintf("limit %d: give how many are wanted at most, up to %d", limit, rowsMost)}
	}
	if limit == 0 {
		limit = rowsMost
	}
	return &page{rows: min(limit, rowsMost), bytes: d.q.AnswerBytes()}, nil
}

// take reports whether a row has room, and takes it. The first one always has: otherwise a caller could not get past it.
func (p *page) take(row any) (bool, error) {
	body, err := json.Marshal(row)
	if err != nil {
		return false, fmt.Errorf("encode a row: %w", err)
	}
	if p.rows == 0 || p.begun && len(body) >= p.bytes {
		return false, nil
	}
	p.begun = true
	p.rows--
	p.bytes -= len(body) + 1
	return true, nil
}

// takeFirst gives the first of some rows that have room.
func takeFirst[T any](p *page, rows []T) ([]T, error) {
	for i := range rows {
		fits, err := p.take(&rows[i])
		if err != nil {
			return nil, err
		}
		if !fits {
			return rows[:i], nil
		}
	}
	return rows, nil
}
