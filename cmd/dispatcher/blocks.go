package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// blocksCmd is about pairs of host and workflow.
type blocksCmd struct {
	List  blocksListCmd  `cmd:"" default:"withargs" help:"List the blocks; dispatcher blocks does the same."`
	Clear blocksClearCmd `cmd:"" help:"Lift blocks, and forget the failures that led to them."`
}

// pairFlags choose among blocks.
type pairFlags struct {
	Host hostName   `placeholder:"NAME" help:"Only blocks of this host."`
	Hash hashPrefix `placeholder:"HEX" help:"Only blocks of this workflow; its first 8 digits suffice."`
}

type blocksListCmd struct {
	client
	pairFlags
	JSON bool `help:"Print a JSON array."`
}

// Help is shown after the flags.
func (*blocksListCmd) Help() string {
	return `Examples:
  dispatcher blocks
  dispatcher blocks --host gpu-1 --json`
}

// Run lists.
func (b *blocksListCmd) Run(ctx context.Context, c *daemon.Console) error {
	q, done, err := b.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	blocks, err := b.blocks(ctx, q)
	if err != nil {
		return err
	}
	if b.JSON {
		return c.JSON(blocks)
	}
	if len(blocks) == 0 {
		c.Say("nothing is blocked")
		return nil
	}
	rows := [][]string{{"HOST", "WORKFLOW", "LIFTS", "LEVEL", "FOR", "KIND", "JOB", "WHY"}}
	now := q.Now()
	for i := range blocks {
		rows = append(rows, blockRow(&blocks[i], now))
	}
	return c.Table(rows)
}

func blockRow(b *route.Block, now time.Time) []string {
	tenants := make([]string, 0, len(b.Tenants))
	for _, t := range b.Tenants {
		tenants = append(tenants, string(t))
	}
	whom := strings.Join(tenants, " ")
	if whom == "*" || whom == "" {
		whom = "everyone"
	}
	if b.Size > 0 {
		whom += fmt.Sprintf(", size ≥ %d", b.Size)
	}
	return []string{
		string(b.Host), b.Hash.Short(), daemon.In(b.Until, now), fmt.Sprint(b.Level), whom, string(b.Kind), string(b.Job), daemon.Short(daemon.FirstLine(b.Message), 80),
	}
}

// blocks reads the table, sorted by host and hash.
func (p *pairFlags) blocks(ctx context.Context, q *queue.Queue) ([]route.Block, error) {
	blocks := []route.Block{}
	err := q.Blocks(ctx, func(c queue.Change[route.Block]) {
		host, hash, ok := queue.PairOf(c.Key)
		if !ok || p.Host != "" && string(p.Host) != host || !strings.HasPrefix(string(hash), string(p.Hash)) {
			return
		}
		b := c.Value
		if c.Phase == queue.Invalid {
			b = route.Block{Host: route.HostID(host), Hash: hash, Message: "the stored value is not valid and blocks nothing; clear it"}
		}
		blocks = append(blocks, b)
	})
	slices.SortFunc(blocks, func(a, b route.Block) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Hash, b.Hash))
	})
	return blocks, err
}

type blocksClearCmd struct {
	client
	pairFlags
	All bool `help:"Lift all blocks."`
}

// Help is shown after the flags.
func (*blocksClearCmd) Help() string {
	return `Examples:
  dispatcher blocks clear --host gpu-1
  dispatcher blocks clear --hash 3f2a9c1d --host gpu-1
  dispatcher blocks clear --all`
}

// Validate refuses a command that says nothing about which blocks it means.
func (b *blocksClearCmd) Validate() error {
	if b.Host == "" && b.Hash == "" && !b.All {
		return errors.New("give --host, --hash or both, or --all")
	}
	return nil
}

// Run lifts blocks.
func (b *blocksClearCmd) Run(ctx context.Context, c *daemon.Console) error {
	q, done, err := b.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	requests := []queue.UnblockRequest{{Host: string(b.Host), Hash: workflow.Hash(b.Hash)}}
	if b.Host == "" && b.Hash == "" {
		if requests, err = b.everyHost(ctx, q); err != nil {
			return err
		}
	}
	lifted := 0
	for _, request := range requests {
		request.By = by()
		var answer queue.CountAnswer
		if err := q.Call(ctx, "unblock", request, &answer); err != nil {
			return err
		}
		lifted += answer.Count
	}
	c.Print("%s lifted", daemon.Plural(lifted, "block"))
	return nil
}

func (b *blocksClearCmd) everyHost(ctx context.Context, q *queue.Queue) ([]queue.UnblockRequest, error) {
	blocks, err := b.blocks(ctx, q)
	var requests []queue.UnblockRequest
	for i := range blocks {
		if i == 0 || blocks[i].Host != blocks[i-1].Host {
			requests = append(requests, queue.UnblockRequest{Host: string(blocks[i].Host)})
		}
	}
	return requests, err
}
