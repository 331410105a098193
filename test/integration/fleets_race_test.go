//go:build race

package integration_test

// fleets is smaller than without the race detector, which makes every fleet several times as heavy.
const fleets = "2"

// crowd is smaller than without the race detector, as fleets is.
const crowd = 400
