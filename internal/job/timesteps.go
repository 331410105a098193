package job

// timeStep is what happened in one of the equal steps of time, which are numbered from 1970 on. Of these the newest are kept, each at its number
// modulo how many are kept.
type timeStep[T any] struct {
	number int64
	sum    T
}

// stepOf is the sum of a step, to be added to; a new step takes the place of an older one. It is nil for a step that is too old.
func stepOf[T any](kept []timeStep[T], number int64) *T {
	if number < 0 {
		return nil
	}
	s := &kept[number%int64(len(kept))]
	if number > s.number {
		*s = timeStep[T]{number: number}
	}
	if number < s.number {
		return nil
	}
	return &s.sum
}

// stepsBetween calls do with the sum of each kept step from one number to another.
func stepsBetween[T any](kept []timeStep[T], from, to int64, do func(number int64, sum *T)) {
	for i := range kept {
		if s := &kept[i]; from <= s.number && s.number <= to {
			do(s.number, &s.sum)
		}
	}
}
