"""What the papers print, as an indication beside our figures: Sakinis et al. 2019, and at the end Liu et al. 2022.

The test cases in Tables III and IV of the first are withheld by the challenge, and its grid is finer than most of ours.
"""

# Table II, our Dices: MSD spleen (a known structure on another data set), MSD colon cancer (unknown), by test clicks.
TABLE_2 = {
    "spleen (MSD)": {1: 0.89, 2: 0.93, 5: 0.95, 10: 0.96, 15: 0.97},
    "colon cancer (MSD)": {1: 0.64, 2: 0.72, 5: 0.81, 10: 0.87, 15: 0.89},
}

# Table III: the BCV test set after 5 clicks; Dice, Hausdorff distance (mm), mean absolute distance (mm).
TABLE_3 = {
    "Sakinis et al. 2019": (0.94023, 7.3693, 0.25351),
    "nnUNet (automatic)": (0.88104, 17.2583, 1.3894),
    "ResNet101KL (automatic)": (0.84968, 18.468, 1.4504),
    "DLTK (U-Net, automatic)": (0.81535, 62.8724, 1.8613),
    "Auto Context (automatic)": (0.7824, 26.0951, 1.9362),
    "DeepSeg (FCN, automatic)": (0.76728, 27.3397, 2.9587),
}

# Table IV, "Ours": Dice, Hausdorff distance (mm), mean absolute distance (mm); None where the paper prints a dash.
TABLE_4: dict[str, tuple[float, float | None, float | None]] = {
    "spleen": (0.978, 4.785, 0.177),
    "right kidney": (0.966, 5.848, 0.239),
    "left kidney": (0.968, None, None),
    "gallbladder": (0.923, None, None),
    "oesophagus": (0.935, 4.303, 0.200),
    "liver": (0.980, 16.582, 0.356),
    "stomach": (0.962, 15.244, 0.343),
    "aorta": (0.967, 3.367, 0.205),
    "inferior vena cava": (0.954, 7.297, 0.249),
    "portal and splenic vein": (0.908, 7.289, 0.2064),
    "pancreas": (0.922, 10.180, 0.351),
    "right adrenal": (0.876, 3.539, 0.215),
    "left adrenal": (0.882, 5.512, 0.234),
}

# Liu et al. 2022, Table 1: Dice (%) after 10 clicks, mean and deviation; MSD lung, colon, pancreas (L1 and L2).
LIU_TABLE_1: dict[str, tuple[str, str, str, str]] = {
    "Automatic (nnU-Net)": ("64.99", "44.84", "82.16", "49.34"),
    "InterCNN 2018": ("80.07±2.65", "69.58±2.97", "82.31±3.28", "74.17±2.91"),
    "DeepIGeoS 2019": ("81.74±1.72", "70.61±2.46", "82.77±1.51", "75.36±2.60"),
    "BS-IRIS 2020": ("81.67±2.14", "71.27±1.82", "85.16±1.34", "76.49±2.48"),
    "MIDeepSeg 2021": ("82.31±3.58", "71.89±3.09", "84.69±4.03", "70.34±4.36"),
    "TIS 2022": ("85.07±1.55", "73.03±1.68", "87.72±1.28", "77.91±2.07"),
}

# Liu et al. 2022, Table 2: MSD pancreas and its tumours, Dice (%) after 5 clicks, then after 10.
LIU_TABLE_2 = {
    "no click encoding": ("82.74", "66.74", "83.32", "71.52"),
    "no label assignment": ("81.23", "70.54", "80.78", "69.82"),
    "both": ("86.15", "72.82", "87.72", "77.91"),
}
