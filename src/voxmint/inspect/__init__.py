"""What a person looks at: pictures of pairs and of template banks."""
