variable "image" {
  description = "Image with its tag; null until one is pushed."
  type        = string
  default     = null
}
