package gateway_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

func TestWhatIsHiddenIsForgottenWithTheEventsOfItsJobs(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]int{72 * time.Hour: 73, 0: 1000} {
		if remembered, hides := gateway.HideOneEachHour(1000, age); remembered != want || !hides {
			t.Errorf("with an age of %s %d are remembered, want %d; the last is hidden: %v", age, remembered, want, hides)
		}
	}
}
