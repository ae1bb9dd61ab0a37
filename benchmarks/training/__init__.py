"""What policies are trained on, and how: families of images, tasks made of them, evolution."""
