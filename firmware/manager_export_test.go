package firmware

// Runs returns how many updates m runs, for tests in another package.
func (m *Manager) Runs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(len(m.runs), len(m.byEndpoint))
}

// Awaited returns how many updates callers of Wait wait for.
func (m *Manager) Awaited() int {
	m.waiters.mu.Lock()
	defer m.waiters.mu.Unlock()
	return len(m.waiters.byID)
}
