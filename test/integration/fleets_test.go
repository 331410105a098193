//go:build !race

package integration_test

// fleets is how many tests run at once unless -parallel says otherwise: they mostly wait for cooldowns and leases, so
// more than there are processors.
const fleets = "6"

// crowd is how many jobs stand before the one that a test is about.
const crowd = 2000
