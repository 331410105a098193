package kinds

import "testing"

func TestNothing(*testing.T) {}
