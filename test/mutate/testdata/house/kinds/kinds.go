// Package kinds has a line for every kind of change.
package kinds

import (
	"errors"
	"log/slog"
	"sync"
)

type row struct {
	name string
	n    int
}

var lock sync.Mutex

func conditions(a, b bool, n int) bool {
	if a && b {
		return true
	}
	for n < 3 {
		n++
	}
	ok := a || n == 4
	return !ok
}

func numbers(n int, s string) (int, error) {
	n = n*2 - 1
	n += max(n, 7)
	n |= 1 << n
	switch s {
	case "x", "y":
		return n, nil
	}
	return 0, errors.New(s + "!")
}

func statements(rows []row, out chan<- row) {
	lock.Lock()
	defer lock.Unlock()
	defer close(out)
	rest := make([]row, 0, 8)
	for _, r := range rows {
		if r.n > 0 {
			slog.Info("left alone", "n", r.n+1)
			continue
		}
		out <- row{name: r.name, n: 9}
		rest = append(rest, r)
	}
	if rest == nil {
		return
	}
	go statements(rest, nil)
}
