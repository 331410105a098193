package history

// Crowd has most jobs share the hash of another.
func (f *Fold) Crowd() { f.mask = 3 }
