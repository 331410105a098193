package dashboard

import "sync"

// memo keeps what was read of things that never change. When it has so many values as most says, all are forgotten. Only most has to be set.
type memo[K comparable, V any] struct {
	most int

	mu    sync.Mutex // guards known
	known map[K]V
}

func (m *memo[K, V]) get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, known := m.known[key]
	return value, known
}

func (m *memo[K, V]) put(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= m.most {
		m.known = map[K]V{}
	}
	m.known[key] = value
}
