package route

import "time"

// Policy says how many failures make a block and how long it lasts. The zero value means Production, field by
// field.
type Policy struct {
	Cooldown    time.Duration // of the first block; doubles with each level
	Cap         time.Duration // longest block; an incapable block lasts as long, unless the host's capability changes before
	MaxFailures int           // strikes that make a block
}

// Production blocks at the first failure for a minute.
func Production() Policy {
	return Policy{Cooldown: time.Minute, Cap: 15 * time.Minute, MaxFailures: 1}
}

// Development blocks at the third failure for half a minute.
func Development() Policy {
	return Policy{Cooldown: 30 * time.Second, Cap: 15 * time.Minute, MaxFailures: 3}
}

// HighAvailability keeps work away from a doubtful pair for two minutes.
func HighAvailability() Policy {
	return Policy{Cooldown: 2 * time.Minute, Cap: 15 * time.Minute, MaxFailures: 1}
}

// Presets lists the names that Preset knows.
func Presets() []string { return []string{"production", "development", "high-availability"} }

// Preset gives a policy by name; false when there is none of that name.
func Preset(name string) (Policy, bool) {
	switch name {
	case "production":
		return Production(), true
	case "development":
		return Development(), true
	case "high-availability":
		return HighAvailability(), true
	}
	return Policy{}, false
}

func (p Policy) filled() Policy {
	d := Production()
	if p.Cooldown <= 0 {
		p.Cooldown = d.Cooldown
	}
	if p.Cap <= 0 {
		p.Cap = d.Cap
	}
	if p.MaxFailures <= 0 {
		p.MaxFailures = d.MaxFailures
	}
	return p
}

// BlockFor is how long a block of a level lasts: min(cooldown · 2^level + jitter, cap) in whole seconds, rounded
// up, since the time to live of a key is in whole seconds; at least one.
func (p Policy) BlockFor(level int, jitter time.Duration) time.Duration {
	p = p.filled()
	d := p.Cooldown
	for range level {
		if d >= p.Cap {
			break
		}
		d *= 2
	}
	return wholeSeconds(min(d+max(jitter, 0), p.Cap))
}

// keptPerBlock: strikes are kept this many times as long as the last block of their pair lasted.
const keptPerBlock = 10

// StrikesFor is how long the strikes of a pair are kept after they changed last: ten times its last block, or what
// its first one would be. level is that of the strikes, which the last block has raised.
func (p Policy) StrikesFor(level int) time.Duration {
	return keptPerBlock * p.BlockFor(max(level-1, 0), 0)
}

func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
