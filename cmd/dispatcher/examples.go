package main

// The examples of commands that have nothing else to say after their flags.

// Help is shown after the flags.
func (*commands) Help() string {
	return `Examples:
  dispatcher demo
  dispatcher run
  dispatcher submit workflow_api.json --wait --out pictures
  dispatcher why JOB`
}

// Help is shown after the flags.
func (*hostsCmd) Help() string {
	return `Examples:
  dispatcher hosts
  dispatcher hosts drain gpu-1
  dispatcher hosts resume gpu-1`
}

// Help is shown after the flags.
func (*hostsResumeCmd) Help() string {
	return `Examples:
  dispatcher hosts resume gpu-1 gpu-2`
}

// Help is shown after the flags.
func (*blocksCmd) Help() string {
	return `Examples:
  dispatcher blocks
  dispatcher blocks clear --host gpu-1`
}

// Help is shown after the flags.
func (*deadCmd) Help() string {
	return `Examples:
  dispatcher dead
  dispatcher dead show JOB
  dispatcher dead requeue --reason no_capable_host --since 24h`
}

// Help is shown after the flags.
func (*affinityCmd) Help() string { return affinityExamples }

// Help is shown after the flags.
func (*affinityListCmd) Help() string { return affinityExamples }

// Help is shown after the flags.
func (*affinityRmCmd) Help() string { return affinityExamples }

const affinityExamples = `Examples:
  dispatcher affinity
  dispatcher affinity set video_api.json --prefer gpu=4090 --exclude gpu-3
  dispatcher affinity rm video_api.json`

// Help is shown after the flags.
func (*tenantsCmd) Help() string { return tenantsExamples }

// Help is shown after the flags.
func (*tenantsListCmd) Help() string { return tenantsExamples }

const tenantsExamples = `Examples:
  dispatcher tenants
  dispatcher tenants set acme --weight 2 --max-running 8`
