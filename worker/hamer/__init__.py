"""HaMeR (CVPR 2024) inference: every detected hand gets 21 joints in 2D and 3D, a camera and, when asked for, a mesh.

Importing this package costs nothing; `refiner` is the door for the pipeline and the first module that needs torch,
`fetch` gets the official weights and needs neither torch nor cv2.
"""
