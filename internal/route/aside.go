package route

// passedMost is how many classes a search passes over, since hosts that have room are blocked for them, before it sets
// these aside.
const passedMost = 16

func (r *Room) passedMost() int {
	if r.Slice > 0 {
		return min(passedMost, r.Slice)
	}
	return passedMost
}

// poolsMost bounds the pools for which classes are set aside.
const poolsMost = 4096

// setAside moves the classes that were passed over to pools that have none of the hosts which are blocked for them, when
// they are many: a host on which many workflows are blocked stays idle, and would have each decision look at all of them.
func (s *search) setAside() {
	r := s.room
	if len(r.passed) >= r.passedMost() {
		for _, c := range r.passed {
			r.setAside(s.fleet, c, s.host)
		}
	}
	clear(r.passed)
	r.passed = r.passed[:0]
}

// passOver notes that a class was passed over, if hosts that have room are blocked for it.
func (s *search) passOver(c *class) {
	r := s.room
	if len(r.pools) >= poolsMost || !r.blockedWithRoom(s.fleet, c, s.host, s.fleet.scratch.chosen) {
		return
	}
	r.passed = append(r.passed, c)
	s.cut = r.Slice > 0 && len(r.passed) >= r.Slice
}
