package route

import "time"

const (
	// LeaveTime is how long a waiting job is left to the home of the host that is best for it.
	LeaveTime = time.Second
	// leftMost is how many classes one search leaves to other homes. Then it looks at hosts that are at home here only,
	// so that it does not go through all classes while other homes have the better hosts.
	leftMost = 32
)

// LeaveToHomes has waiting jobs given only to hosts whose home is this dispatcher. Then, of several dispatchers with the
// same tickets, few claim the same one. Hosts elsewhere are still compared: a job for which one of them is best is left to
// its home, for LeaveTime at most, since that dispatcher may have a reason not to use it which is unknown here. Choose
// is not affected.
func (f *Fleet) LeaveToHomes(on bool) { f.leaves = on }

// leaveTo reduces the hosts with room to those that are at home here, when the others are left to their homes.
func (f *Fleet) leaveTo(roomy set) {
	if f.leaves {
		roomy.and(f.home)
	}
}

// chooseFor is the choice of a host for the first ticket of a class, in a search for any host.
func (s *search) chooseFor(c *class, w *Want) decision {
	f := s.fleet
	if !f.leaves {
		return f.choose(w, s.now)
	}
	if s.left < leftMost && (c.left == 0 || s.room.now-c.left < int64(LeaveTime)) {
		d := f.choose(w, s.now)
		if d.host < 0 || f.home.has(d.host) {
			return d
		}
		s.leave(c)
		return decision{host: -1}
	}
	f.onlyHome = true
	defer func() { f.onlyHome = false }()
	return f.choose(w, s.now)
}

// leave notes that a class is left to another dispatcher, and has the room looked at again when its time is over.
func (s *search) leave(c *class) {
	s.left++
	if c.left == 0 {
		c.left = s.room.now
	}
	s.room.askAgain(c.left + int64(LeaveTime))
}
