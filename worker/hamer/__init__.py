"""HaMeR (CVPR 2024) inference: adds 21 joints in 2D and 3D, a camera and optionally a mesh to every detected hand.

Importing this package costs nothing. `refiner` is the pipeline's door, and the first module that needs torch; `fetch`
downloads the official weights and needs neither torch nor cv2.
"""
