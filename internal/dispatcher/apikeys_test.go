package dispatcher_test

import (
	"errors"
	"testing"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAPIKeysAreKeptForAJobThatIsToCome(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		keep := func(r jetstream.APIKeys) (jetstream.APIKeysAnswer, error) {
			return callAs[jetstream.APIKeysAnswer](s.memory, "acme", "api_keys", r)
		}
		a, err := keep(jetstream.APIKeys{Job: "x", APIKey: "sk-1"})
		if err != nil || a.Job != "x" || !a.Until.Equal(noon) {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err = keep(jetstream.APIKeys{Job: "x", AuthToken: "t"}); err != nil {
			t.Error(err)
		}
		s.want("kept", s.done("keep"), []string{"keep keys acme/x", "keep keys acme/x"})
		for _, r := range []jetstream.APIKeys{{Job: "x"}, {Job: "no id", APIKey: "k"}, {Job: "j-1", APIKey: "k"}, {APIKey: "k"}} {
			_, err = keep(r)
			refused[*jetstream.BadRequest](s, err)
		}
		s.cuts(map[string]error{"keep": queue.ErrTooManyAPIKeys})
		_, err = keep(jetstream.APIKeys{Job: "x", APIKey: "k"})
		refused[*jetstream.TooMany](s, err)
		s.cuts(map[string]error{"keep": errCut})
		_, err = keep(jetstream.APIKeys{Job: "x", APIKey: "k"})
		s.want("when they cannot be kept", errors.Is(err, errCut), true)
	})
}
