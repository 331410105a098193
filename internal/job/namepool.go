package job

import "strings"

// namePool keeps each name once, as long as a row has it. The empty name is number 0.
type namePool struct {
	numbers map[string]uint32
	names   []string
	users   []uint32
	free    []uint32
}

func newNamePool() namePool {
	return namePool{numbers: map[string]uint32{}, names: []string{""}, users: []uint32{0}}
}

// take gives the number of a name, and counts one more row that has it.
func (p *namePool) take(name string) uint32 {
	if name == "" {
		return 0
	}
	n, known := p.numbers[name]
	if !known {
		name = strings.Clone(name)
		n = uint32(len(p.names))
		if last := len(p.free) - 1; last >= 0 {
			n, p.free = p.free[last], p.free[:last]
			p.names[n] = name
		} else {
			p.names, p.users = append(p.names, name), append(p.users, 0)
		}
		p.numbers[name] = n
	}
	p.users[n]++
	return n
}

// drop counts one row less that has the name of a number.
func (p *namePool) drop(n uint32) {
	if n == 0 {
		return
	}
	if p.users[n]--; p.users[n] == 0 {
		delete(p.numbers, p.names[n])
		p.names[n] = ""
		p.free = append(p.free, n)
	}
}

func (p *namePool) text(n uint32) string { return p.names[n] }

func (p *namePool) number(name string) (uint32, bool) {
	n, known := p.numbers[name]
	return n, known
}
