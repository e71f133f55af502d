"""Find faces and their five landmarks with MTCNN."""
