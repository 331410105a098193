package dispatcher_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// cutting says what happens to the effects of a connection.
type cutting struct {
	dead  atomic.Bool               // its process has died: nothing that it does happens any more
	end   func()                    // ends the process
	fault func(effect string) error // asked before each effect of this connection
	mine  []noted                   // effects of this connection; guarded by the mutex of server
}

// noted is an effect that has happened.
type noted struct {
	what  string
	write bool
}

// What a cut may give for an effect. Any other error keeps the effect from happening, like errCut.
var (
	errCut       = errors.New("the wire is cut")
	errDropped   = errors.New("dropped without a word")               // of a publish that NATS does not confirm: it does not happen, and there is no error
	errUnheard   = errors.New("the answer was not heard")             // it happens, and the caller gets this error
	errDies      = errors.New("the process dies before the effect")   // it does not happen
	errDiesAfter = errors.New("the process dies behind the effect")   // it happens
	errDead      = errors.New("the process that asks for it is dead") // it does not happen
)

// write has do change what is stored, with mu held, unless the effect is cut.
func (m *memory) write(do func(), format string, args ...any) error {
	return m.effect(true, m.locked(do), fmt.Sprintf(format, args...))
}

// read is write for what changes nothing.
func (m *memory) read(do func(), format string, args ...any) error {
	return m.effect(false, m.locked(do), fmt.Sprintf(format, args...))
}

func (m *memory) locked(do func()) func() {
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		do()
	}
}

// effect is what write and read have in common. do is called without mu.
func (m *memory) effect(write bool, do func(), what string) error {
	way := m.cutHere(what)
	switch {
	case errors.Is(way, errDies):
		m.die()
		return errDead
	case way != nil && !errors.Is(way, errUnheard) && !errors.Is(way, errDiesAfter):
		return way
	}
	m.mu.Lock()
	m.mine = append(m.mine, noted{what, write})
	m.effects, m.times = append(m.effects, what), append(m.times, time.Now())
	m.mu.Unlock()
	do()
	if errors.Is(way, errDiesAfter) {
		m.die()
	}
	if m.dead.Load() {
		return errDead
	}
	return way
}

// cutHere gives the error of an effect that is cut. Reads for lists, which are no effects, call it too. It may wait.
func (m *memory) cutHere(what string) error {
	m.mu.Lock()
	cuts := []func(string) error{m.cut, m.fault}
	m.mu.Unlock()
	for _, cut := range cuts {
		if cut == nil {
			continue
		}
		if err := cut(what); err != nil {
			return err
		}
	}
	if m.dead.Load() {
		return errDead
	}
	return nil
}

// die ends the process that has this connection as a crash does: nothing more that it does happens.
func (m *memory) die() {
	if !m.dead.Swap(true) && m.end != nil {
		m.end()
	}
}

// lightly gives the error of a publish that NATS does not confirm.
func lightly(err error) error {
	if errors.Is(err, errDropped) {
		return nil
	}
	return err
}

// cuts has the next effects that begin with each of some words fail in a way, once each.
func (m *memory) cuts(ways map[string]error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = func(effect string) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for word, way := range ways {
			if strings.HasPrefix(effect, word) {
				delete(ways, word)
				return way
			}
		}
		return nil
	}
}

// done gives the effects that begin with one of some words.
func (m *memory) done(words ...string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.effects), func(e string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(e, w) })
	})
}

// when is the time of the first effect that begins with a word, counted from a moment; false when there was none.
func (m *memory) when(word string, from time.Time) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, e := range m.effects {
		if strings.HasPrefix(e, word) {
			return m.times[i].Sub(from), true
		}
	}
	return 0, false
}
