// Package lease is a room with one rule, whose tests guard all of it.
package lease

// Expired says whether a lease that nobody holds has passed its limit.
func Expired(age, limit int, held bool) bool {
	if held {
		return false
	}
	return age > limit
}
