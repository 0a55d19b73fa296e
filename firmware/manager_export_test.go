package firmware

// Runs returns how many updates m drives, for tests that a test of another package makes.
func (m *Manager) Runs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(len(m.runs), len(m.byEndpoint))
}

// Awaited returns for how many updates callers of Wait wait.
func (m *Manager) Awaited() int {
	m.waiters.mu.Lock()
	defer m.waiters.mu.Unlock()
	return len(m.waiters.byID)
}
