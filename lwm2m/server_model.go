package lwm2m

// Model returns the model of an object in the version that counts for a device: see [Models]. For
// an endpoint that is not known that is the newest. The model is shared: do not change it.
func (s *Server) Model(endpoint string, object uint16) (*ObjectModel, bool) {
	r, _ := s.Registration(endpoint)
	return s.config.Models.For(r).Object(object, Version{})
}
