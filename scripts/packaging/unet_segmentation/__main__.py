"""`python -m unet_segmentation`, where the folder of the command is not in PATH."""

from unet_segmentation import main

main()
