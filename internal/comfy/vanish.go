package comfy

// workerVanished says that the thread that runs prompts has ended while a prompt counts as running.
func (h *Host) workerVanished(backlog) bool { return false }
